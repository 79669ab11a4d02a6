"""Time training steps side by side: tinyalex, PyTorch if it is installed, and the limits of the hardware.

Every contender runs in a process of its own (`worker`). The measuring process asks each in turn for one action, A B A B
(`process`, `measure`). Results are medians of the samples that other programs did not disturb (`timing`, `summarize`).
They are compared with a floor, the least time that the hardware allows: on the CPU from the arithmetic of direct
convolution (`cpu_floor`), on a GPU from the bytes and operations of each layer (`gpu_floor`), at the rates of matrix
products and copies that were measured in the same run (`cpu_rates`, `gpu_rates`).
"""
