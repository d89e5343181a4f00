"""What the processor tells by itself: hints after which it is asked, never proof.

accounts    whose notification it is: the keys that sign them
store       stored once, and what is left to follow; SQL only
model       what a notification says about an operation that we know. Pure
following   the work: make an inquiry due, wait, or want the account's books read
watching    whether they arrive: the webhook's state, and charges of which nothing was told
"""
