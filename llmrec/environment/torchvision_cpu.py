"""Let ``import torchvision`` work beside a CPU-only torch.

The registry's torchvision wheel is built against CUDA. Next to a CPU torch its
compiled operators cannot load, and the import then fails with "operator
torchvision::nms does not exist", because the package annotates two operators
that were never declared. Only its Python layer (image transforms) is used here,
so declaring these two operators before the import is enough.

The fix has to reach interpreters that llmrec does not start itself (vLLM
inspects models in a fresh ``python -m vllm...`` child), so
:mod:`llmrec.environment` copies this file into site-packages next to a one-line
``.pth``. It must therefore stay self-contained, cheap at start-up (it never
imports torch by itself) and silent where torchvision's own operators load.
"""

import importlib.abc
import importlib.machinery
import sys

OPERATORS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)
_libraries: list = []  # torch removes an operator once its Library object is collected


def _own_operators_load(package_dirs):
    """Whether the compiled operators of the torchvision in ``package_dirs`` load."""
    import glob
    import os

    import torch

    for folder in package_dirs:
        for name in ("_C.so", "_C_stable.so", "_C.pyd", "_C_stable.pyd"):
            for path in glob.glob(os.path.join(folder, name)):
                try:
                    torch.ops.load_library(path)
                except (OSError, RuntimeError):
                    continue
                if hasattr(torch.ops.torchvision, "nms"):
                    return True
    return False


def declare_operators(package_dirs):
    """Declare torchvision's two annotated operators unless its own are there."""
    import torch

    if _own_operators_load(package_dirs):
        return
    library = torch.library.Library("torchvision", "FRAGMENT")
    for schema in OPERATORS:
        if not hasattr(torch.ops.torchvision, schema.split("(")[0]):
            library.define(schema)
    _libraries.append(library)


class TorchvisionFinder(importlib.abc.MetaPathFinder):
    """Runs :func:`declare_operators` right before torchvision is imported."""

    def find_spec(self, fullname, path=None, target=None):
        if fullname != "torchvision":
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.submodule_search_locations:
            declare_operators(list(spec.submodule_search_locations))
        return spec


def install_finder():
    """Put the finder first on ``sys.meta_path``, once per interpreter."""
    if not any(type(f).__name__ == "TorchvisionFinder" for f in sys.meta_path):
        sys.meta_path.insert(0, TorchvisionFinder())


install_finder()
