"""What each study computes from predictions and logs."""
