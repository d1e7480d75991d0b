"""WebShop: find and buy what an instruction asks for, in a shop of a thousand to a million products."""

from nextstep_envs.worlds.webshop.shop import Shop, load_shop

__all__ = ["Shop", "load_shop"]
