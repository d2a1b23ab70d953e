"""Is what is served still what was trained? ``llmrec monitor``.

A :class:`~llmrec.ranking.monitor.reference.Reference` is fitted on the rows a click model was
trained on and kept with it. A log of what was served is then compared with it:

* ``reference``: the inputs' shares of values; ``drift``: how far a log's are from them (PSI).
* ``served``: the log, a batch at a time, every row checked; ``windows``: its days or weeks.
* ``report``: ``report.md`` and ``monitor.json``; ``plots``: ``monitor.png``; ``run``: the command.
"""
