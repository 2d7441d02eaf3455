"""Several processes that train one network, behind one interface (`ranks.Ranks`); alone, it does nothing.

ranks.py            the processes of a run: sums, broadcasts, who writes
rendezvous.py       how they find each other
sync_batch_norm.py  batch norm over the images of all of them
"""
