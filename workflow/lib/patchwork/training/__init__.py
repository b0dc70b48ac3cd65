"""Training: the loop, checkpoints, evaluation, pre-training, several GPUs, precision."""
