"""What a service remembers: events, people, recommendations and keys, in SQLite or PostgreSQL.

:class:`~llmrec.serving.store.database.Store` opens a database and runs transactions; the other
files have one table each, as functions of a transaction's connection.
"""
