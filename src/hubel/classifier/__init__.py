"""The one object that leaves training: a network with its preprocessing, class names and temperature.

classifier.py   Classifier, and where a name leads
header.py       what the header of a classifier's file says
"""

from hubel.classifier.classifier import Answer, Classifier, FromPictures, averaged, file_of, lasting, sha256_of

__all__ = ["Answer", "Classifier", "FromPictures", "averaged", "file_of", "lasting", "sha256_of"]
