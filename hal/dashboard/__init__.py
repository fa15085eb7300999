"""The dashboard: a page that shows a lab as MQTT tells of it, and past runs beside it. Needs the extra `dashboard`.

`model` and `series` are what is known of a lab, and `view` is what a browser is told of that: all pure.
`mqtt` is the wire to the broker and `ear` listens on it, `runs` and `run_curves` read past runs, `door` asks who is
there, `server` puts the page together.
"""
