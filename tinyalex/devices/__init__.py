"""Devices: the array module that computes, memory, copies, kernels, and pretend devices for tests."""
