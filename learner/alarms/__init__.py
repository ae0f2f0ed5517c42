"""Alarms: what would be noticed of a served version that gets worse, or of people who change; one that is open
keeps the champion where it is.

    read      a version's answers, and those of the versions before it      reading.py
    measure   each as a series of numbers in [0, 1]                          measures.py, drift.py
    compare   its mean beside the reference's, with confidence bounds        comparing.py
    decide    whether an alarm opens or closes                               deciding.py
    keep      readings and alarms, in the experience database                history.py
    tell      serving and people, through Redis                              publishing.py

`watching.py` puts them together. What an alarm allows is in `limits.py`.
"""
