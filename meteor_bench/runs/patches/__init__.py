"""Pictures of what a method keeps: which patches of which encoder are left after each stage, for one question.

film.py      watches a session answer, and turns what is left at each point into panels of cells
watch.py     one document under one setting: panels, answer, score
picture.py   a panel drawn over the picture
sheet.py     several settings side by side, as a PNG
command.py   what `meteor-bench show` does
"""
