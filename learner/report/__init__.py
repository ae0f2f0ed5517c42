"""The report "Is it learning?": what people's votes say of each version, and what would help most.

    read      `ReportData`, rows of the database             reading.py
    measure   `VersionFigures` and how they compare           versions.py
    fit       what a reward model makes of the votes         fits.py
    say       sentences and ranked advice                    words.py, advice.py
    draw      PNGs                                           plots.py

`make.py` puts them together, `publishing.py` leaves the result where serving reads it.
"""
