"""The raw formats that ``llmrec ingest`` reads, a file each.

A file has ``open_source(config)``, which gives a :class:`~llmrec.data.source.Source`, and where the
publisher's files can be downloaded ``DOWNLOADS``. Its line in :data:`llmrec.data.settings.FORMATS`
names it.
"""
