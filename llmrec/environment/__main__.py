"""``python -m llmrec.environment``: the same as ``llmrec doctor``."""

import sys

from llmrec.environment import main
from llmrec.errors import LlmrecError

try:
    main(sys.argv[1:])
except LlmrecError as error:
    sys.exit(f"llmrec: error: {error}")
