"""Pictures of what a method keeps: which patches of which encoder are left after each stage, for one question.

recorder.py         watches a session answer, and turns what is left at each point into panels of cells
trace_sample.py     one document under one setting: panels, answer, score
picture.py          a panel drawn over the picture
figure.py           several settings side by side, as a PNG
flips.py            the questions that two runs answered differently well
report_pictures.py  what the HTML report draws
command.py          what `meteor-bench show` does
"""
