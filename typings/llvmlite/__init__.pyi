__version__: str
__file__: str
