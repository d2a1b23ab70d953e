"""An outside check: RecTools' eSASRec or SASRec on our split, its lists measured by our evaluator.

RecTools has an environment of its own, beside ours and never in it:

    python3 -m venv runs/rectools-env
    runs/rectools-env/bin/pip install 'rectools[torch]==0.19.0' pyarrow==20.0.0
    runs/rectools-env/bin/python eval/rectools_check.py runs/beauty/dataset \\
        --out runs/esasrec.parquet
    llmrec evaluate --dataset runs/beauty/dataset --lists runs/esasrec.parquet \\
        --name beauty-esasrec --results eval/results

It needs numpy below 2, hence the older pyarrow; where there is no GPU, install
``torch==2.13.0+cpu`` first. The model learns from the training events alone; the epoch that is best
by Recall@10 on the validation cases makes the lists of the test cases, whose histories hold the
validation events. ``--users`` takes the first so many people for a trial: the lists are then those
people's alone, and no evaluation accepts them.

eSASRec (arXiv 2508.06450) is SASRec's objective with LiGR layers and softmax over the target and
256 sampled items; ``--model sasrec`` has SASRec's layers and softmax over the whole catalogue.
"""

import argparse
import copy
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from lightning_fabric import seed_everything
from rectools import Columns
from rectools.dataset import Dataset
from rectools.models import SASRecModel
from rectools.models.nn.transformers.ligr import LiGRLayers

TRAIN, VALIDATION, TEST = 0, 1, 2  # codes of the column `split`; those below are in no split
LIST_LENGTH = 100
COLUMNS = [Columns.User, Columns.Item, Columns.Weight, Columns.Datetime]


def read_events(folder: Path, users: int) -> pd.DataFrame:
    """Events of sequences, in their order: user, item, split."""
    events = pq.read_table(folder / "events.parquet", columns=["user", "item", "split"]).to_pandas()
    events = events[events["split"] > -2]
    return events[events["user"] < users] if users else events


def interactions(users: np.ndarray, items: np.ndarray) -> Dataset:
    """A dataset of RecTools; events of a user are in the order of the rows."""
    frame = pd.DataFrame({Columns.User: users, Columns.Item: items, Columns.Weight: 1.0})
    frame[Columns.Datetime] = pd.to_datetime(np.arange(len(frame)), unit="s")
    return Dataset.construct(frame[COLUMNS])


def cases_of(events: pd.DataFrame, split: int) -> tuple[Dataset, np.ndarray, np.ndarray]:
    """Histories with a number for each case as its user; the cases' users and targets.

    A case is an event of the split; its history is all that its user did before it.
    """
    user, item = events["user"].to_numpy(), events["item"].to_numpy()
    targets = np.flatnonzero(events["split"].to_numpy() == split)
    starts = np.searchsorted(user, user[targets])
    lengths = targets - starts
    case = np.repeat(np.arange(len(targets)), lengths)
    first = np.repeat(np.cumsum(lengths) - lengths, lengths)
    rows = np.repeat(starts, lengths) + np.arange(lengths.sum()) - first
    return interactions(case, item[rows]), user[targets], item[targets]


def lists_of(model: SASRecModel, histories: Dataset, cases: int, length: int) -> list[list[int]]:
    """The best items of each case, those of its history among them; none where it has none."""
    known = histories.user_id_map.external_ids
    found = model.recommend(
        known, histories, k=length, filter_viewed=False, on_unsupported_targets="ignore"
    )
    lists: list[list[int]] = [[] for _ in range(cases)]
    for case, items in found.groupby(Columns.User, sort=False)[Columns.Item]:
        lists[int(case)] = items.to_list()
    return lists


def recall(lists: list[list[int]], histories: Dataset, targets: np.ndarray) -> float:
    """Recall@10, the history removed from the ranking."""
    pairs = histories.get_raw_interactions()
    seen = pairs.groupby(Columns.User)[Columns.Item].agg(set).to_dict()
    hits = 0
    for case, target in enumerate(targets):
        history = seen.get(case, set())
        hits += target in [item for item in lists[case] if item not in history][:10]
    return hits / len(targets)


def make_model(args: argparse.Namespace) -> SASRecModel:
    """eSASRec or SASRec as RecTools has them."""
    esasrec = args.model == "esasrec"
    own = {"transformer_layers_type": LiGRLayers} if esasrec else {}
    return SASRecModel(
        n_blocks=args.blocks,
        n_heads=args.heads,
        n_factors=args.factors,
        dropout_rate=args.dropout,
        session_max_len=args.session,
        loss=args.loss or ("sampled_softmax" if esasrec else "softmax"),
        n_negatives=args.negatives,
        lr=args.learning_rate,
        batch_size=args.batch_size,
        **own,
    )


def fit(args: argparse.Namespace, model: SASRecModel, events: pd.DataFrame) -> SASRecModel:
    """Train until validation stops rising; the model as it was best."""
    learned = events[events["split"] == TRAIN]
    train = interactions(learned["user"].to_numpy(), learned["item"].to_numpy())
    histories, _, targets = cases_of(events, VALIDATION)
    longest = 10 + int(events.groupby("user").size().max())
    best, best_epoch, best_weights = -1.0, 0, None
    started = time.monotonic()
    for epoch in range(args.every, args.epochs + 1, args.every):
        model.fit_partial(train, min_epochs=args.every, max_epochs=args.every)
        value = recall(lists_of(model, histories, len(targets), longest), histories, targets)
        minutes = (time.monotonic() - started) / 60
        print(f"epoch {epoch}  validation recall@10 {value:.4f}  {minutes:.1f} min", flush=True)
        if value > best:
            best, best_epoch = value, epoch
            best_weights = copy.deepcopy(model.lightning_model.torch_model.state_dict())
        if epoch - best_epoch >= args.patience:
            break
    print(f"best: epoch {best_epoch}, validation recall@10 {best:.4f}", flush=True)
    model.lightning_model.torch_model.load_state_dict(best_weights)
    return model


def write_lists(
    path: Path, folder: Path, users: np.ndarray, lists: list[list[int]], about: dict[str, str]
) -> None:
    """One row a case, as ``llmrec evaluate --lists`` reads them."""
    user_ids = pq.read_table(folder / "users.parquet", columns=["user_id"])["user_id"].to_pylist()
    item_ids = pq.read_table(folder / "items.parquet", columns=["item_id"])["item_id"].to_pylist()
    table = pa.table(
        {
            "user_id": [user_ids[user] for user in users],
            "items": pa.array([[item_ids[i] for i in row] for row in lists], pa.list_(pa.string())),
        }
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table.replace_schema_metadata(about), path)
    print(f"{path}: {len(lists):,} lists of up to {max(map(len, lists))} items", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("dataset", type=Path, help="folder of llmrec ingest")
    parser.add_argument("--out", type=Path, required=True, help="the lists, Parquet")
    parser.add_argument("--model", choices=["esasrec", "sasrec"], default="esasrec")
    parser.add_argument("--loss", choices=["softmax", "sampled_softmax"], help="another loss")
    parser.add_argument("--epochs", type=int, default=200)
    parser.add_argument("--every", type=int, default=2, help="epochs between validations")
    parser.add_argument("--patience", type=int, default=50, help="epochs without a better one")
    parser.add_argument("--blocks", type=int, default=2)
    parser.add_argument("--heads", type=int, default=4)
    parser.add_argument("--factors", type=int, default=256)
    parser.add_argument("--dropout", type=float, default=0.2)
    parser.add_argument("--session", type=int, default=50, help="newest items of a history")
    parser.add_argument("--negatives", type=int, default=256)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--users", type=int, default=0, help="for a trial: the first so many")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    if args.epochs < args.every:
        parser.error("--epochs must be at least --every")
    seed_everything(args.seed)
    events = read_events(args.dataset, args.users)
    model = fit(args, make_model(args), events)
    histories, users, targets = cases_of(events, TEST)
    # with the history removed, a hundred are left
    longest = LIST_LENGTH + int(events.groupby("user").size().max())
    lists = lists_of(model, histories, len(targets), longest)
    told = {name: str(value) for name, value in vars(args).items()}
    write_lists(args.out, args.dataset, users, lists, told)


if __name__ == "__main__":
    main()
