"""What a model of one domain alone learns from and is validated on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmrec.data.dataset import Dataset
from llmrec.data.domains import Domains
from llmrec.errors import DataError
from llmrec.types import Cases, Histories

if TYPE_CHECKING:
    from llmrec.training.next_item.settings import TrainConfig


def training_histories(config: TrainConfig, dataset: Dataset) -> Histories:
    """The training histories, those of the settings' domain alone where they name one.

    Raises:
        ConfigError: for a domain that no item is of.
        DataError: if nothing happened in it.
    """
    histories = dataset.train_histories(
        config.share, validation=config.learn_validation, user_share=config.user_share
    )
    if not config.domain:
        return histories
    domains = Domains.of(dataset)
    own = domains.only(histories, domains.number(config.domain))
    if not len(own.items):
        raise DataError(f"{dataset.folder}: no training event is of the domain {config.domain!r}")
    return own


def cases_of(config: TrainConfig, dataset: Dataset, cases: Cases) -> Cases:
    """Cases whose target is of the settings' domain, with that domain's histories; or all.

    Raises:
        ConfigError, DataError: as :func:`training_histories`.
    """
    if not config.domain:
        return cases
    own, domains = cases_of_domain(cases, dataset, config.domain), Domains.of(dataset)
    histories = domains.only(own.histories, domains.number(config.domain))
    return Cases(own.users, histories, own.targets)


def cases_of_domain(cases: Cases, dataset: Dataset, domain: str) -> Cases:
    """Cases whose target is of a domain; histories hold all events.

    Raises:
        ConfigError: for a domain that no item is of.
        DataError: if there is no case.
    """
    domains = Domains.of(dataset)
    own = cases.select(domains.of_item[cases.targets] == domains.number(domain))
    if not len(own):
        raise DataError(f"{dataset.folder}: no validation event is of {domain!r}")
    return own
