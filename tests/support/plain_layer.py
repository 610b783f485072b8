"""A layer of Keras's own ops whose second derivative is right."""

import keras


class PlainNormalization(keras.layers.Layer):
    """LayerNormalization over the last axes, in Keras's ops.

    Keras's own layers take their variance from tf.nn.moments, whose second derivative
    is wrong; see test_keras_is_wrong_in_second_order.
    """

    def __init__(self, axes=(-1,), epsilon=1e-3, **kwargs):
        super().__init__(**kwargs)
        self.axes, self.epsilon = list(axes), epsilon

    def build(self, input_shape):
        shape = input_shape[self.axes[0] :]
        self.gamma = self.add_weight(shape=shape, initializer="ones")
        self.beta = self.add_weight(shape=shape, initializer="zeros")

    def call(self, x):
        deviation = x - keras.ops.mean(x, self.axes, keepdims=True)
        variance = keras.ops.mean(deviation**2, self.axes, keepdims=True)
        rstd = keras.ops.rsqrt(variance + self.epsilon)
        return deviation * rstd * self.gamma + self.beta
