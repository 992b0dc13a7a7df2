"""What the supported versions of PyTorch have under different names."""

from __future__ import annotations

import torch

# without a public name before PyTorch 2.3; torch.compile puts True in the place of either
is_compiling = torch.compiler.is_compiling if hasattr(torch.compiler, "is_compiling") else torch._utils.is_compiling
