"""Models that a YAML file puts together: any vision towers, a fusion of either kind, a language model.

parts.py     what a file may say of each part: encoder, fusion, language model
encoders.py  the types of encoders: a dataclass for each, the published sizes as defaults
recipe.py    a file into checked parts, without any library that takes seconds
towers.py    parts into towers
model.py     a recipe into a model, with random weights or those of a folder
shipped.py   the compositions of this package (../compositions/*.yaml), rows of the model table
"""
