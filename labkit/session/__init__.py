"""The front door of a notebook: one object that has the lab, its phones, its captures and its pictures."""
