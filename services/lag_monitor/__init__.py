"""Where did every second between repaid and restored go? An observer: it reads every topic and owns no money."""
