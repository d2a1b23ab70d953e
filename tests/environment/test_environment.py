"""The packages llmrec builds on really import here, and the repair does what it says.

Each check runs in a fresh interpreter: what this process has imported must not help.
"""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from llmrec import environment
from llmrec.cli import run_command
from llmrec.environment import HOOK, PACKAGES, UNLOADABLE, install_hook, remove_hook
from llmrec.errors import ConfigError


def python(code: str, *flags: str, timeout: float = 300) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *flags, "-c", code]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)


def installed(*modules: str) -> bool:
    return all(importlib.util.find_spec(module) for module in modules)


def needs(*modules: str) -> pytest.MarkDecorator:
    missing = [m for m in modules if not importlib.util.find_spec(m)]
    return pytest.mark.skipif(bool(missing), reason=f"not installed: {', '.join(missing)}")


@needs(*(package.module for package in PACKAGES))
def test_every_package_imports_in_one_process() -> None:
    names = ", ".join(package.module for package in PACKAGES)
    done = python(f"import {names}; print('all imported')")
    assert done.stdout.endswith("all imported\n"), done.stderr[-2000:]


TRANSFORM = """
import numpy, PIL.Image, torchvision
from torchvision import transforms
steps = [transforms.Resize(8), transforms.CenterCrop(8), transforms.ToTensor()]
image = PIL.Image.fromarray(numpy.full((16, 12, 3), 255, dtype=numpy.uint8))
print(tuple(transforms.Compose(steps)(image).shape))
"""


@needs("torchvision")
def test_torchvision_transforms_an_image() -> None:
    done = python(TRANSFORM)
    assert done.stdout == "(3, 8, 8)\n", done.stderr[-2000:]


@needs("torchvision")
def test_the_hook_is_what_makes_torchvision_work_beside_a_cpu_torch(tmp_path: Path) -> None:
    if not environment.torch_is_cpu_only():
        pytest.skip("torch has its own CUDA or ROCm: torchvision's operators load by themselves")
    site = environment.site_packages()
    # -S and -E leave every .pth out; the packages come in by hand.
    without = python(f"import sys; sys.path.append({str(site)!r})\n{TRANSFORM}", "-S", "-E")
    assert without.returncode != 0
    assert "torchvision::nms does not exist" in without.stderr
    install_hook(tmp_path)
    paths = f"import sys; sys.path += [{str(tmp_path)!r}, {str(site)!r}]"
    with_hook = python(f"{paths}\nimport {HOOK}\n{TRANSFORM}", "-S", "-E")
    assert with_hook.stdout == "(3, 8, 8)\n", with_hook.stderr[-2000:]


def test_the_hook_does_not_import_torch_at_start_up(tmp_path: Path) -> None:
    install_hook(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == [f"{HOOK}.pth", f"{HOOK}.py"]
    line = (tmp_path / f"{HOOK}.pth").read_text()
    done = python(f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n{line}\nprint(*sys.modules)")
    loaded = done.stdout.split()
    assert HOOK in loaded
    assert not {"torch", "torchvision", "numpy"} & set(loaded)


def test_the_hook_leaves_an_environment_without_torchvision_alone(tmp_path: Path) -> None:
    install_hook(tmp_path)
    code = f"import sys; sys.path.append({str(tmp_path)!r}); import {HOOK}; import torchvision"
    done = python(code, "-S", "-E")
    assert "ModuleNotFoundError: No module named 'torchvision'" in done.stderr


def test_the_hook_can_be_installed_twice_and_removed_twice(tmp_path: Path) -> None:
    for _ in range(2):
        install_hook(tmp_path)
    for _ in range(2):
        remove_hook(tmp_path)
    assert list(tmp_path.iterdir()) == []


@needs("torch")
def test_nothing_that_cannot_load_is_installed_beside_a_cpu_torch() -> None:
    if not environment.torch_is_cpu_only():
        pytest.skip("beside a torch with CUDA or ROCm these load")
    assert not [name for name in UNLOADABLE if installed(name)]


@needs("torch")
def test_fix_leaves_a_gpu_torch_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import torch

    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(environment, "site_packages", lambda: tmp_path)
    environment.doctor(fix=True)
    assert list(tmp_path.iterdir()) == []
    assert "nothing to fix" in capsys.readouterr().out


def test_fix_and_unfix(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(environment, "torch_is_cpu_only", lambda: True)
    monkeypatch.setattr(environment, "site_packages", lambda: tmp_path)
    monkeypatch.setattr(environment, "UNLOADABLE", ())
    run_command(["doctor", "--fix"])
    assert (tmp_path / f"{HOOK}.pth").is_file()
    run_command(["doctor", "--unfix"])
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ConfigError, match="choose one"):
        environment.doctor(fix=True, unfix=True)
    assert str(tmp_path) in capsys.readouterr().out


def test_the_module_repairs_without_any_package(tmp_path: Path) -> None:
    """What ``make setup`` runs: it must not need what it is to repair."""
    root = Path(environment.__file__).parents[2]
    code = f"import sys, runpy; sys.path.insert(0, {str(root)!r}); sys.argv = ['x', '--unfix']\n"
    code += "import llmrec.environment as e; from pathlib import Path\n"
    code += f"e.site_packages = lambda: Path({str(tmp_path)!r})\n"
    code += "runpy.run_module('llmrec.environment.__main__')"
    install_hook(tmp_path)
    done = python(code, "-S", "-E")  # no installed package can be imported
    assert done.returncode == 0, done.stderr[-2000:]
    assert list(tmp_path.iterdir()) == []


def test_doctor_tells_working_missing_and_broken_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "sprained.py").write_text("raise OSError('libankle.so: not found')\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    packages = (
        environment.Package("numpy", ("numpy",), "train"),
        environment.Package("sprained", ("pyyaml",), "tune"),
        environment.Package("nowhere", ("no-such-distribution",), "media"),
    )
    monkeypatch.setattr(environment, "PACKAGES", packages)
    with pytest.raises(SystemExit, match="sprained cannot be imported; try  llmrec doctor --fix"):
        environment.doctor()
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    assert "works" in lines["numpy"]
    assert "BROKEN" in lines["sprained"] and "OSError: libankle.so" in lines["sprained"]
    assert "missing   pip install 'llmrec[media]'" in lines["nowhere"]
