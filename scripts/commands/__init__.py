"""One module per subcommand of ``senbazuru``.

Each has ``NAME``, ``HELP``, ``add_arguments(parser)`` and ``run(args) -> exit code``; what only an extra installs is
imported inside ``run``.
"""
