"""The tables of a service's store. A change of them is a new :data:`SCHEMA_VERSION`."""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
)

SCHEMA_VERSION = 4
# what makes a store of a version one of the next; missing tables are made before
MIGRATIONS: dict[int, tuple[str, ...]] = {
    1: ("ALTER TABLE events ADD COLUMN revenue DOUBLE PRECISION",),
    2: (),
    3: (),
}
METADATA = MetaData()
# SQLite counts by itself only in a column of type INTEGER
_NUMBER = BigInteger().with_variant(Integer, "sqlite")

INFO = Table(
    "llmrec_store",
    METADATA,
    Column("name", String, primary_key=True),
    Column("value", String, nullable=False),
)

# timestamps are seconds since 1970 UTC; `number` is the order in which events came
EVENTS = Table(
    "events",
    METADATA,
    Column("number", _NUMBER, primary_key=True, autoincrement=True),
    Column("event_id", String, nullable=False, unique=True),
    Column("user_id", String, nullable=False),
    Column("item_id", String),
    Column("type", String, nullable=False),
    Column("timestamp", Float(53), nullable=False),
    Column("rating", Float(53)),
    Column("text", Text, nullable=False),
    Column("session", String, nullable=False),
    Column("context", JSON, nullable=False),
    Column("recommendation_id", String),
    Column("revenue", Float(53)),
    Index("events_of_user", "user_id", "timestamp", "number"),
    Index("events_by_age", "timestamp"),
    Index("events_of_recommendation", "recommendation_id"),
    Index("events_of_item", "item_id", "type"),
)

USERS = Table(
    "users",
    METADATA,
    Column("user_id", String, primary_key=True),
    Column("profile", JSON, nullable=False),
    Column("membership", String),
)

# people whose history in the dataset of a service is not read any more, by sha256 of their name
FORGOTTEN = Table(
    "forgotten_users",
    METADATA,
    Column("user_hash", String, primary_key=True),
)

RECOMMENDATIONS = Table(
    "recommendations",
    METADATA,
    Column("recommendation_id", String, primary_key=True),
    Column("user_id", String),
    Column("timestamp", Float(53), nullable=False),
    Column("model", String, nullable=False),
    Column("variant", String, nullable=False),
    Column("catalog_version", String, nullable=False),
    Index("recommendations_of_user", "user_id"),
    Index("recommendations_by_age", "timestamp"),
)

RECOMMENDED_ITEMS = Table(
    "recommended_items",
    METADATA,
    Column(
        "recommendation_id",
        ForeignKey(RECOMMENDATIONS.c.recommendation_id, ondelete="CASCADE"),
        primary_key=True,
    ),
    Column("rank", Integer, primary_key=True),
    Column("item_id", String, nullable=False),
    Column("score", Float(53), nullable=False),
    Column("p_click", Float(53)),
)

# items that changed, or came, since the bundle was made: what the shop said last of each
CATALOGUE_ITEMS = Table(
    "catalogue_items",
    METADATA,
    Column("item_id", String, primary_key=True),
    Column("revision", BigInteger, nullable=False),
    Column("fields", JSON, nullable=False),
    Column("removed", Boolean, nullable=False),
    Column("number", BigInteger),
    Column("codes", JSON),
    Column("ids_of", String),
    Index("catalogue_items_by_revision", "revision"),
)

# `until` is when a row is no longer there
CARTS = Table(
    "carts",
    METADATA,
    Column("cart_id", String, primary_key=True),
    Column("cart", JSON, nullable=False),
    Column("until", Float(53), nullable=False),
    Index("carts_by_end", "until"),
)

REPLIES = Table(
    "replies",
    METADATA,
    Column("key", String, primary_key=True),
    Column("digest", String, nullable=False),
    Column("reply", JSON, nullable=False),
    Column("until", Float(53), nullable=False),
    Index("replies_by_end", "until"),
)

# what a conversation has come to, by a hash of what was said in it
CONVERSATIONS = Table(
    "conversations",
    METADATA,
    Column("key", String, primary_key=True),
    Column("user_id", String),
    Column("state", JSON, nullable=False),
    Column("until", Float(53), nullable=False),
    Index("conversations_of_user", "user_id"),
    Index("conversations_by_end", "until"),
)

# which variant of which experiment a list is of; `share` is the probability of the assignment
EXPOSURES = Table(
    "exposures",
    METADATA,
    Column(
        "recommendation_id",
        ForeignKey(RECOMMENDATIONS.c.recommendation_id, ondelete="CASCADE"),
        primary_key=True,
    ),
    Column("experiment", String, primary_key=True),
    Column("variant", String, nullable=False),
    Column("share", Float(53), nullable=False),
    Index("exposures_of_experiment", "experiment"),
)

# experiments of /v1/experiments; `ended` ones stay, for what was shown of them
EXPERIMENTS = Table(
    "experiments",
    METADATA,
    Column("name", String, primary_key=True),
    Column("definition", JSON, nullable=False),
    Column("created", Float(53), nullable=False),
    Column("ended", Float(53)),
)

# lists whose first place was drawn: the item there was `chosen`-th of the ranking
EXPLORED_LISTS = Table(
    "explored_lists",
    METADATA,
    Column(
        "recommendation_id",
        ForeignKey(RECOMMENDATIONS.c.recommendation_id, ondelete="CASCADE"),
        primary_key=True,
    ),
    Column("places", Integer, nullable=False),
    Column("chosen", Integer, nullable=False),
    Column("propensity", Float(53), nullable=False),
)

API_KEYS = Table(
    "api_keys",
    METADATA,
    Column("key_id", String, primary_key=True),
    Column("name", String, nullable=False),
    Column("secret_hash", String, nullable=False),
    Column("scopes", JSON, nullable=False),
    Column("created", Float(53), nullable=False),
    Column("revoked", Float(53)),
)
