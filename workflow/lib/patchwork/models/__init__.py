"""Networks: architectures and their sites, backbones, adapters with heads, targets."""
