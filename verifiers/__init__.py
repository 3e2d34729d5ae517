"""The referees, one file each: plain callables over cases, and the panel that seats them."""
