"""What is wrong with labelled images, found before a network learns it.

inventory.py     all images of a source in one row, and what is found about them
kinds.py         the kinds of findings, gravest first
audit.py         every look that needs no network; or what is known already, at a glance
copies.py        images that are there more than once
headers.py       what files say about themselves
wholeness.py     whether files are whole
appearance.py    blank, dark, overexposed, blurred
class_counts.py  what class names and class counts give away
descriptors.py   what an image looks like in numbers, without a network
judges.py        what the judges of labels see
fine_tuning.py   a judge: the last layers of a network, trained in folds
label_issues.py  labels that are improbable to classifiers that did not train on the image
check.py         all of it, and the list of what to leave out
"""

from hubel.audit.audit import Audit, audit, glance, gravest_first, in_short
from hubel.audit.inventory import Finding, Inventory
from hubel.audit.kinds import KINDS, Kind

__all__ = ["KINDS", "Audit", "Finding", "Inventory", "Kind", "audit", "glance", "gravest_first", "in_short"]
