"""Several classifiers as one.

combine.py      what is averaged, selected, souped or fused
together.py     an ensemble that answers, and the file that names its members
"""

from hubel.ensemble.together import Ensemble

__all__ = ["Ensemble"]
