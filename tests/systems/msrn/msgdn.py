"""The released net once more, with its names, after its published equations; small, in float64, any trunk width."""

import torch
from torch import nn
from torch.nn import functional

from tests.systems.msrn.reference import torch_gat


class Block(nn.Module):
    """A bottleneck as torchvision has it."""

    def __init__(self, inputs, inside, stride):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(inputs, inside, 1, bias=False), nn.BatchNorm2d(inside)
        self.conv2, self.bn2 = nn.Conv2d(inside, inside, 3, stride, 1, bias=False), nn.BatchNorm2d(inside)
        self.conv3, self.bn3 = nn.Conv2d(inside, 4 * inside, 1, bias=False), nn.BatchNorm2d(4 * inside)
        self.downsample = nn.Sequential(
            nn.Conv2d(inputs, 4 * inside, 1, stride, bias=False), nn.BatchNorm2d(4 * inside)
        )

    def forward(self, x):
        y = self.bn2(self.conv2(self.bn1(self.conv1(x)).relu())).relu()
        return (self.bn3(self.conv3(y)) + self.downsample(x)).relu()


class Gat(nn.Module):
    def __init__(self, inputs, outputs):
        super().__init__()
        self.W = nn.Parameter(torch.randn(inputs, outputs) * (0.7 / inputs) ** 0.5)
        self.a = nn.Parameter(torch.randn(2 * outputs, 1) * 0.1)

    def forward(self, x, graph):
        return torch_gat(x, self.W, self.a[:, 0], graph)


class Resnet(nn.Module):
    """One block a stage; the three taps."""

    def __init__(self, width):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, width, 7, 2, bias=False), nn.BatchNorm2d(width)
        for stage in range(4):
            inputs, inside = (4 * width * 2 ** (stage - 1) if stage else width), width * 2**stage
            self.add_module(f"layer{stage + 1}", nn.Sequential(Block(inputs, inside, 2 if stage else 1)))
        for number in range(3):
            channels = 4 * width * 2**number
            self.add_module(f"conv_buffer{number}", nn.Conv2d(channels, channels, 1))

    def forward(self, x, border):
        x = functional.pad(x - border, (3, 3, 3, 3)) + border  # what our nets see beyond the border
        x = functional.max_pool2d(self.bn1(self.conv1(x)).relu(), 3, 2, 1)
        x = self.layer2(self.layer1(x))
        first = functional.max_pool2d(self.conv_buffer1(x), 2)
        x = self.layer3(x)
        second = functional.max_pool2d(self.conv_buffer2(x), 2)
        return first, second, functional.max_pool2d(self.layer4(x), 2)


class Msgdn(nn.Module):
    """`fusion` as ours is called."""

    def __init__(self, classes, groups, width=8, label=512, hidden=2048):
        super().__init__()
        self.resnet_101 = Resnet(width)
        self.label_embed, self.group_embed = nn.Module(), nn.Module()
        self.label_embed.layers = nn.ModuleList([Gat(256, 300), Gat(300, label)])
        self.group_embed.layers = nn.ModuleList([nn.Module()])
        self.group_embed.layers[0].embed = Gat(label, label)
        self.group_embed.layers[0].assign_mat = Gat(label, groups)
        self.ProjectM = nn.ModuleList([nn.Conv2d(width * 8 * 2**number, label, 1) for number in range(3)])
        self.fc_label = nn.Linear(300, 256)
        self.fc1 = nn.Linear(3 * label * (classes + groups), hidden)
        self.fc2 = nn.Linear(hidden, classes)
        self.W = nn.Parameter(torch.randn(classes, 6 * label) * 0.03)
        self.B = nn.Parameter(torch.randn(classes))
        for part in self.modules():
            if isinstance(part, nn.BatchNorm2d):
                nn.init.uniform_(part.weight, 0.5, 1.5), nn.init.normal_(part.bias, 0, 0.2)
                nn.init.normal_(part.running_mean, 0, 0.2), nn.init.uniform_(part.running_var, 0.5, 2)

    def embeddings(self, vectors, graph):
        labels = self.fc_label(vectors)
        for layer in self.label_embed.layers:
            labels = layer(labels, graph)
        pool = self.group_embed.layers[0]
        s = torch.softmax(pool.assign_mat(labels.relu(), graph), 1)
        return labels, s.T @ pool.embed(labels.relu(), graph), s

    def group_loss(self, vectors, graph):
        labels, groups, s = self.embeddings(vectors, graph)
        return 0.0001 * sum(torch.dist(label, groups[k]) for label, k in zip(labels, s.argmax(1), strict=True))

    def forward(self, images, border, vectors, graph, fusion="flatten"):
        labels, groups, s = self.embeddings(vectors, graph)
        seen = []
        for project, tap in zip(self.ProjectM, self.resnet_101(images, border), strict=True):
            f = project(tap).flatten(2).transpose(1, 2)[:, :, None]  # N x P x 1 x D
            both = [(torch.softmax(f * e, 1) * f).sum(1) for e in (labels, groups)]
            seen.append(both)
        own, pooled = (torch.cat([both[i] for both in seen], 2) for i in (0, 1))
        if fusion == "flatten":
            flat = torch.cat((own, pooled), 1).tanh().flatten(1)
            return self.fc2(functional.leaky_relu(self.fc1(flat)))
        shared = torch.matmul(pooled.permute(0, 2, 1), s.T).permute(0, 2, 1)
        return (self.W * torch.cat((own, shared), 2).tanh()).sum(2) + self.B
