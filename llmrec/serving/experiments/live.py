"""Experiments that begin and end while a service runs, beside those of its file.

They are kept in the store, so all services over it have the same. The file's are the file's: what
would be another one of the same name, or sets the same, is refused, and a service whose file and
store disagree does not start.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from llmrec.errors import ConfigError, LlmrecError
from llmrec.serving.experiments.settings import (
    Experiment,
    ExperimentsConfig,
    ExplorationConfig,
    conflict,
    read_experiment,
)
from llmrec.serving.experiments.variants import Variants
from llmrec.serving.store import experiments, exposures
from llmrec.serving.store.database import Store
from llmrec.serving.store.experiments import StoredExperiment

LOG = logging.getLogger(__name__)
NO_FILE = ExperimentsConfig({}, ExplorationConfig(), Path())
CREATED, CHANGED, UNCHANGED, RESUMED = "created", "changed", "unchanged", "resumed"
OF_FILE = "is of the service's file of experiments, and changes there"


class UnknownExperimentError(LlmrecError):
    """There is no experiment of a name."""


class ExperimentConflictError(LlmrecError):
    """An experiment cannot run beside what there is."""


@dataclass(frozen=True)
class KnownExperiment:
    """An experiment that runs, or ran.

    Attributes:
        stored: None for one of the file.
        problem: why it does not run in this service; nothing where it does.
    """

    experiment: Experiment
    stored: StoredExperiment | None = None
    problem: str = ""

    @property
    def runs(self) -> bool:
        """Whether people are answered by it."""
        return not self.problem and (self.stored is None or self.stored.ended is None)


class LiveExperiments:
    """The experiments of a service as they are now. Many threads may use them at once.

    Args:
        store: keeps those that the file does not have.
        variants: that of the file; is changed.

    Raises:
        ConfigError: if one of the store cannot run beside the file, or with the bundle.
        StoreError: if the store cannot be read.
    """

    def __init__(self, store: Store, variants: Variants) -> None:
        self._store, self._variants = store, variants
        self._file, self._lock = variants.config, threading.Lock()
        self._stored: dict[str, StoredExperiment] = {}
        self._problems: dict[str, str] = {}
        self.known: Mapping[str, KnownExperiment] = self._of_file()
        self.sync()
        for name, problem in self._problems.items():
            raise ConfigError(
                f"store {store.name}: the experiment {name!r} cannot run: {problem}; end it with  "
                "llmrec experiment end NAME --store URL"
            )

    def find(self, name: str) -> KnownExperiment:
        """One of them.

        Raises:
            UnknownExperimentError: if there is none.
        """
        if name not in self.known:
            raise UnknownExperimentError(f"name: there is no experiment {name!r}")
        return self.known[name]

    def put(self, name: str, definition: Mapping[str, Any]) -> str:
        """Begin an experiment: stored, and in force here, when this returns.

        Returns:
            ``created``, ``changed``, ``unchanged``, or ``resumed`` for one that had ended.

        Raises:
            ConfigError: naming the field that is wrong.
            ExperimentConflictError: if it cannot run beside others, or something of another one of
                the same name was shown.
            StoreError: if the store cannot be written; nothing was changed.
        """
        new = self._checked(name, definition)
        with self._lock:
            with self._store.write() as connection:
                experiments.lock(connection)
                stored = experiments.every(connection)
                was = stored.get(name)
                is_same = was is not None and _text(was.definition) == _text(new.as_dict())
                if not is_same and exposures.any_of(connection, name):
                    raise ExperimentConflictError(
                        f"name: lists of another experiment {name!r} were shown; give this one a "
                        "new name, since what they earned would be added up"
                    )
                self._check_beside(new, stored)
                if was is None or not is_same:
                    outcome = CREATED if was is None else CHANGED
                    kept = StoredExperiment(name, new.as_dict(), time.time())
                else:
                    outcome = UNCHANGED if was.ended is None else RESUMED
                    kept = replace(was, ended=None)
                if outcome != UNCHANGED:
                    experiments.put(connection, kept)
            self._use(stored | {name: kept})
        return outcome

    def end(self, name: str) -> None:
        """Let an experiment end; one that has ended is left as it is.

        Raises:
            UnknownExperimentError: if there is none.
            ExperimentConflictError: for one of the file.
            StoreError: if the store cannot be written; nothing was changed.
        """
        if name in self._file.experiments:
            raise ExperimentConflictError(f"name: {name!r} {OF_FILE}")
        with self._lock:
            self._use(end(self._store, name))

    def sync(self) -> None:
        """Take in what other services over the store began and ended.

        Raises:
            StoreError: if the store cannot be read.
        """
        with self._lock:
            with self._store.read() as connection:
                stored = experiments.every(connection)
            if stored != self._stored:
                self._use(stored)

    def _checked(self, name: str, definition: Mapping[str, Any]) -> Experiment:
        if name in self._file.experiments:
            raise ExperimentConflictError(f"name: {name!r} {OF_FILE}")
        new = read_experiment(name, dict(definition))
        for variant, one in new.variants.items():
            if one.bundle is not None:
                raise ConfigError(
                    f"variants.{variant}.bundle: is opened when the service starts; write the "
                    "experiment in the file of --experiments"
                )
        self._variants.check(new)
        return new

    def _check_beside(self, new: Experiment, stored: Mapping[str, StoredExperiment]) -> None:
        """Check it against the file's and all that run over the store, here or elsewhere."""
        running = [one for one in stored.values() if one.ended is None and one.name != new.name]
        others = [read_experiment(one.name, one.definition) for one in running]
        problem = conflict(new, [*self._file.experiments.values(), *others])
        if problem:
            raise ExperimentConflictError(f"variants: {problem}")

    def _of_file(self) -> dict[str, KnownExperiment]:
        return {name: KnownExperiment(one) for name, one in self._file.experiments.items()}

    def _use(self, stored: Mapping[str, StoredExperiment]) -> None:
        """Answer by the file's, and by those of the store that can run beside them."""
        known, running = self._of_file(), dict(self._file.experiments)
        problems = dict[str, str]()
        for one in stored.values():
            found = self._known(one, running)
            if found.runs:
                running[one.name] = found.experiment
            if found.problem:
                problems[one.name] = found.problem
            known.setdefault(one.name, found)
        for name in problems.keys() - self._problems.keys():
            LOG.error("the experiment %r does not run here: %s", name, problems[name])
        self._stored, self._problems, self.known = dict(stored), problems, known
        self._variants.config = replace(self._file, experiments=running)

    def _known(
        self, stored: StoredExperiment, running: Mapping[str, Experiment]
    ) -> KnownExperiment:
        experiment = read_experiment(stored.name, stored.definition)
        if stored.ended is not None:
            return KnownExperiment(experiment, stored)
        if stored.name in self._file.experiments:
            return KnownExperiment(experiment, stored, f"one of its name {OF_FILE}")
        try:
            self._variants.check(experiment)
        except ConfigError as error:
            return KnownExperiment(experiment, stored, str(error))
        return KnownExperiment(experiment, stored, conflict(experiment, running.values()))


def end(store: Store, name: str) -> dict[str, StoredExperiment]:
    """Let an experiment of a store end; all that there are then.

    Raises:
        UnknownExperimentError: if there is none.
        StoreError: if the store cannot be written.
    """
    with store.write() as connection:
        experiments.lock(connection)
        stored = experiments.every(connection)
        if name not in stored:
            raise UnknownExperimentError(f"name: the store has no experiment {name!r}")
        if stored[name].ended is None:
            stored[name] = replace(stored[name], ended=time.time())
            experiments.put(connection, stored[name])
    return stored


def stored_config(store: Store) -> ExperimentsConfig:
    """The experiments of a store, ended ones too, as of a file.

    Raises:
        StoreError: if the store cannot be read.
    """
    with store.read() as connection:
        stored = experiments.every(connection)
    found = {name: read_experiment(name, one.definition) for name, one in stored.items()}
    return replace(NO_FILE, experiments=found)


def _text(definition: Mapping[str, Any]) -> str:
    return json.dumps(definition)  # in its order, which decides who gets which variant
