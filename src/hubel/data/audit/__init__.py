"""What is wrong with labelled pictures, found before a network learns it."""

from hubel.data.audit.duplicates import near_duplicates
from hubel.data.audit.thumbnails import look_alikes

__all__ = ["look_alikes", "near_duplicates"]
