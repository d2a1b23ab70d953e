"""A shop's catalogue and carts as agents know them: the Universal Commerce Protocol, v2026-04-08.

:mod:`~llmrec.serving.ucp.tools` is the table of operations and checks what comes in;
:mod:`~llmrec.serving.ucp.catalog` answers searches, look-ups and recommendations,
:mod:`~llmrec.serving.ucp.carts` keeps carts. The same operations are served as tools of the Model
Context Protocol (:mod:`~llmrec.serving.ucp.mcp_server`: ``llmrec mcp`` and ``/mcp``) and over REST
(:mod:`~llmrec.serving.ucp.rest`: ``/ucp``), announced at ``/.well-known/ucp``.

The protocol knows no recommendations: ours are a capability of a namespace of its own.
"""
