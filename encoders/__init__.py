"""Study part in, unit vector and tokens out: ECG and text towers, their losses, their training."""
