"""Mixture of experts: conversion, routing, dispatch and the experts themselves."""
