"""Training steps measured side by side: ours, PyTorch's where it is installed, and what the machine could do at best.

Every contender computes in a process of its own (`worker`), which the one that measures asks for one step in turn
(`talk`, `measure`): A B A B. Medians are of the samples that other programs did not disturb (`clock`, `samples`). On a
card the floor is what each layer has to move and to compute (`traffic`) at the card's own rates (`card`).
"""
