"""The contender PyTorch."""
