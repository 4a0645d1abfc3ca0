"""Where a network is trained, and that it repeats."""

import torch


def choose_device(name: str) -> torch.device:
    """``auto`` is CUDA, else Apple's MPS, else the CPU."""
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        name = next(kind for kind, there in available.items() if there)
    if not available[name]:
        raise ValueError(f"device: '{name}' is not on this machine; use 'auto' or 'cpu'.")
    return torch.device(name)


def set_determinism(seed: int) -> None:
    """From here on one seed gives one network, on one kind of processor."""
    torch.manual_seed(seed)
    torch.backends.cudnn.deterministic = True
