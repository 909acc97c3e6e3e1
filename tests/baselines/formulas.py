"""
Every baseline as the plain formula of its paper: loops over classes and samples of one task, in float64.

A formula takes the model, for its trained parts alone; support features (S, d), labels (S,) and query features (Q, d);
and returns logits (Q, N).
"""

import torch
from torch import Tensor


def unit(vectors: Tensor) -> Tensor:
    return vectors / vectors.pow(2).sum(-1, keepdim=True).sqrt()


def means(support: Tensor, labels: Tensor) -> Tensor:
    return torch.stack([support[labels == label].sum(0) / (labels == label).sum() for label in range(3)])


def prototypical(model, support, labels, query):
    found = means(support, labels)
    return torch.stack([torch.stack([-((q - c) ** 2).sum() for c in found]) for q in query])


def simpleshot(model, support, labels, query):
    centre = model.task_network.centre["image"].value
    found = means(unit(support - centre), labels)
    return torch.stack([torch.stack([-((q - c) ** 2).sum() for c in found]) for q in unit(query - centre)])


def cosine(one: Tensor, other: Tensor) -> Tensor:
    return (unit(one) * unit(other)).sum()


def softmax(scores: Tensor) -> Tensor:
    return scores.exp() / scores.exp().sum(-1, keepdim=True)


def matching(model, support, labels, query):
    scale = model.task_network.cosine_scale.value
    attention = softmax(torch.stack([torch.stack([scale * cosine(q, s) for s in support]) for q in query]))
    return torch.stack([attention[:, labels == label].sum(1).log() for label in range(3)], dim=1)


def relation(model, support, labels, query):
    first, _, last = model.task_network.relation

    def score(mean, q):
        hidden = (first.weight @ torch.cat([mean, q]) + first.bias).clamp(min=0)
        return (last.weight @ hidden + last.bias)[0]

    return torch.stack([torch.stack([score(c, q) for c in means(support, labels)]) for q in query])


def baseline_plus_plus(model, support, labels, query):
    config, weights = model.config, means(support, labels)

    def outputs(weights, samples):
        return torch.stack([torch.stack([config.cosine_scale * cosine(x, w) for w in weights]) for x in samples])

    for _ in range(config.num_inner_steps):
        weights = weights.detach().requires_grad_()
        probabilities = softmax(outputs(weights, support))
        loss = -torch.stack([probabilities[row, label].log() for row, label in enumerate(labels)]).mean()
        loss.backward()
        weights = weights - config.inner_lr * weights.grad
    return outputs(weights, query)


def ridge(model, support, labels, query):
    """The primal form: W = (X' X + lambda I)^-1 X' Y."""
    head, targets = model.task_network.head, torch.eye(3, dtype=torch.float64)[labels]
    inner = support.T @ support + head.log_lambda.exp() * torch.eye(support.shape[1], dtype=torch.float64)
    return head.log_scale.exp() * (query @ (torch.linalg.inv(inner) @ support.T @ targets)) + head.shift


def mahalanobis(model, support, labels, query):
    def covariance(samples):
        size, differences = samples.shape[1], samples - samples.mean(0)
        if len(samples) == 1:
            return torch.zeros(size, size, dtype=torch.float64)
        return sum(torch.outer(d, d) for d in differences) / (len(samples) - 1)

    columns = []
    for label in range(3):
        own = support[labels == label]
        share = len(own) / (len(own) + 1)
        q = share * covariance(own) + (1 - share) * covariance(support)
        q = q + torch.eye(len(q), dtype=torch.float64)
        differences = [x - own.mean(0) for x in query]
        columns.append(torch.stack([-0.5 * d @ torch.linalg.solve(q, d) for d in differences]))
    return torch.stack(columns, dim=1)


def layer_norm(norm, tokens):
    centred = tokens - tokens.mean(-1, keepdim=True)
    return centred / (centred.pow(2).mean(-1, keepdim=True) + norm.eps).sqrt() * norm.weight + norm.bias


def attended(attention, token, seen):
    """What one token makes of those that it sees."""
    heads = []
    for head in range(attention.heads):
        size = len(token) // attention.heads
        own = slice(head * size, (head + 1) * size)
        query, keys = attention.query.weight[own] @ token, seen @ attention.key.weight[own].T
        heads.append(softmax(keys @ query / size**0.5) @ (seen @ attention.value.weight[own].T))
    return attention.output.weight @ torch.cat(heads) + attention.output.bias


def set_attention(model, support, labels, query):
    network, found = model.task_network, means(support, labels)
    adapted = [layer_norm(network.norm, c + attended(network.attention, c, found)) for c in found]
    scale = network.cosine_scale.value
    return torch.stack([torch.stack([scale * cosine(q, c) for c in adapted]) for q in query])


def in_context(model, support, labels, query):
    network = model.task_network
    direction = torch.cos(torch.arange(support.shape[1], dtype=torch.float64))
    keys = [float(mean @ direction) for mean in means(support, labels)]
    simplex = (3 / 2) ** 0.5 * (torch.eye(3, dtype=torch.float64) - 1 / 3) @ network.codes.vectors[:3]
    codes = torch.stack([simplex[sorted(keys).index(key)] for key in keys])
    examples = torch.cat([support @ network.sample.weight.T + network.sample.bias, codes[labels]], dim=1)

    def answer(sample):
        own = torch.cat([network.sample.weight @ sample + network.sample.bias, network.unknown.weight[0]])
        tokens = torch.cat([examples, own[None]])
        for layer in network.layers:
            normed = layer_norm(layer.norms[0], tokens)
            seen = [normed[:-1]] * len(examples) + [normed]  # a query is seen by itself alone
            rows = [attended(layer.attention, token, others) for token, others in zip(normed, seen, strict=True)]
            tokens = tokens + torch.stack(rows)
            tokens = tokens + layer.perceptron(layer_norm(layer.norms[1], tokens))
        last = layer_norm(network.norm, tokens[-1])
        return codes @ (network.answer.weight @ last + network.answer.bias)

    return torch.stack([answer(sample) for sample in query])


FORMULAS = {name: value for name, value in list(globals().items()) if callable(value)}
