"""Fast forms of layers for NumPy in float32, one file for each operation: written to stay in cache.

Each file's functions take a device, arrays and numbers, and return arrays and what backward needs. `Device.kernels_for`
chooses them on the CPU and on fake devices.
"""
