"""Several processes that train one net together: each computes the gradients of a part of every batch."""
