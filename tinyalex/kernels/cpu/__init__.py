"""Fast forms of layers for NumPy in float32, one file an operation: written to stay in cache, with the readable form's values.

Each file's functions take a device, arrays and numbers, and return arrays and what backward needs. `Device.kernels_for`
chooses them on the CPU and on fake devices.
"""
