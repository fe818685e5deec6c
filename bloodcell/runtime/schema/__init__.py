"""The configuration's types: one dataclass a group, with the checks of its values.

Hydra takes them as the schema of `conf/`, so a misspelt key or a value of another type is refused while it composes;
what a type cannot say is checked when the object is made. A field without a default comes from `conf/`. A default is
how a run of a release before the field existed behaved.
"""
