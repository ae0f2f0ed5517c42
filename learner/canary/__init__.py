"""The canary: what a challenger must show on a share of end users before it is champion."""
