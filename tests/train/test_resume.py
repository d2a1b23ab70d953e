"""A killed run goes on exactly; a run that cannot succeed says why in one line."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest_train import Folders
from safetensors.numpy import load_file

from llmrec.train.run import run
from tiny_models import tiny_config

