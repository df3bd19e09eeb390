"""What tests of people's acts share: a mail room with a clock of its own."""

from ..store.conftest import room

__all__ = ["room"]
