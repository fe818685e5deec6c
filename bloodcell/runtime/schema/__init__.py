"""The configuration's types: one dataclass a group, with the checks of its values.

Hydra takes them as the schema of `conf/` and refuses misspelt keys and values of another type; other checks are in
`__post_init__`. Fields without default come from `conf/`; a default is what releases before the field did.
"""
