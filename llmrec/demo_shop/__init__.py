"""A generated shop, bundled as code: rich enough to try every stage, with the truth known.

About 500 things to wear and for the home, 3,500 users whose tastes, seasons and sessions
can be learned, 18 months of events and the lists they were shown. Needs only numpy; its
pictures, videos and speech (``media``), which are off by default, need ``llmrec[demo]``.

Read on in this order: ``vocabulary`` and ``kinds`` (tables), ``catalogue``, ``users``,
``choice`` (what makes a user want an item), ``simulate``, ``shop``, ``write``.
"""

from llmrec.demo_shop.shop import DemoShop, Impression, generate
from llmrec.demo_shop.write import DemoShopConfig, run

__all__ = ["DemoShop", "DemoShopConfig", "Impression", "generate", "run"]
