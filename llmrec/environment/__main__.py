"""``python -m llmrec.environment``: ``llmrec doctor``, for an environment where nothing else works.

Makes no use of packages, since these may be what is to be repaired.
"""

import argparse
import sys

from llmrec.environment import doctor
from llmrec.errors import LlmrecError

parser = argparse.ArgumentParser(prog="python -m llmrec.environment", description=__doc__)
parser.add_argument("--fix", action="store_true", help="repair torchvision beside a CPU torch")
parser.add_argument("--unfix", action="store_true", help="remove that repair")
try:
    doctor(**vars(parser.parse_args()))
except LlmrecError as error:
    sys.exit(f"llmrec: error: {error}")
