"""Operations of the tiny shop, and the protocol's schemas."""

from ucp_schemas import ucp
from ucp_shop import shop_

__all__ = ["shop_", "ucp"]
