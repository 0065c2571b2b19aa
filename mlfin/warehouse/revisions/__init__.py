"""The steps of a warehouse's schema, one module a revision, in the order of their numbers; `migrations` applies them."""

__all__ = []
