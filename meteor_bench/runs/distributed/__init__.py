"""One run by several processes, as `torchrun` and `accelerate launch` start them.

process_group.py  who they are, what they tell each other, how one that fails ends them all
worker.py         the share of one process in the answers
journals.py       the journals of all of them made one

lmms-eval deals the documents out (document i to rank i modulo their number), and each rank answers its own into a
journal of its own. The first rank makes those one journal and then does what a single process does with every answer
known already: so scores, records and tables come from the same code, and a run may go on with any number of processes.
lmms-eval's own gathering is not used: it waits in collectives, which end after half an hour whatever the others still
have to do, and with one rank the answers of all are lost.
"""
