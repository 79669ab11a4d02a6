"""Devices: array modules, memory, copies, threads, CUDA launches, and fake devices for tests."""
